"""The words that every other stage speaks; numpy, jaxtyping and the standard library only."""
