"""Variants of a preset, trained under equal conditions and compared by BD-rate, for scripts/study_variants.py."""
