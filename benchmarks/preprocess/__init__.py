"""Which mistakes of preprocessing show, and how: small trained models, fed in every usual way."""
