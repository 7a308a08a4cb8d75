"""What is drawn: figures and their scales, and what an outer loop has learned."""
