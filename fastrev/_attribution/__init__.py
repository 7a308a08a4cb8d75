"""What attribution is made of: queries, the columns of effects, their source, and scores of predictions."""
