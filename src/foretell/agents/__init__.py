"""Agents that act while data are made: uniform random, and Soft Actor-Critic in both of its forms."""
