"""The words that every other stage speaks; numpy and the standard library only."""
