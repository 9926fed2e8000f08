"""The PyTorch door: optimizers of torch that step by rules."""
