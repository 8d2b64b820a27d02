"""Speed of our codec, the published distributed codec and image formats, timed in turn in one process.

subjects  what is timed: an operation, and what is known of it without timing
ours      our codec's operations: encode, decode, their parts
paper     those of the published codec, with the steps that are not run
anchors   JPEG, WebP and AVIF
training  training steps
timing    taking turns, and what a set of times says
cost      FLOPs and peak memory of one call
results   rows, ratios with their targets, the table and the JSON
session   all of it for one command line
profile   the operators that take the time
"""
