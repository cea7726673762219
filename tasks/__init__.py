"""Steps of a flow, thin: each joins functions of engines and shards, and reports."""
