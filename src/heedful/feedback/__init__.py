"""Feedback: criteria, instructions, labelers, consensus. No torch."""
