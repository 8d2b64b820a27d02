"""The ray caster behind `data/made/street.py`: cameras and buffers (`raycast`), and the surfaces of a street."""
