"""Policy optimisation: SFT, PPO, KL control, stopping."""
