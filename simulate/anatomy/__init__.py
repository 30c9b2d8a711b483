"""The parts of a virtual head, from the skull to the deep nuclei; `simulate.head` puts them together."""
