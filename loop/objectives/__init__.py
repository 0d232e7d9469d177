"""What a round trains with: one file per objective. The only files that import trl."""
