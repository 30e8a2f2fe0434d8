"""Input: sources of pairs, labelled sets, augmentation, order, batches."""
