// Replaced by the first slice.
