"""The simulated CUDA bindings; nothing of the real ones is in reach behind them."""
