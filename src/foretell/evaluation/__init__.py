"""Acting with a trained model, and measuring what it earns."""
