"""What a design can measure before it is trained, which runs to train next, and sealed forecasts."""
