"""From a round's samples to one decision, with its reasons."""
