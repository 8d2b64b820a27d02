"""The ray caster behind `data/street.py`: cameras and buffers (`raycast`), and the surfaces of a street."""
