"""Evaluation from true files. `pipeline.evaluate` runs it all; each module does one part of it.

plan      which points to measure: checkpoint, rate, side image
side      the side images of those variants
anchors   conventional codecs; vvc: one of them; container: the constant bytes of their files
coders    a checkpoint or an anchor as "bytes of an image" and "image of bytes"
sweep     each point and pair: encode, write, read back, decode, log; then measure
code      the versions of that code and of its libraries
store     the output folder: names, logs that survive an interruption, features
summary   summary.json and images.csv from the logs
"""
