"""The optimiser: size and mixture of least loss for a budget, and how near to the best they are."""
