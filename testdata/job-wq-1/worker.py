#!/usr/bin/env python

# Just prints standard out and sleeps.
import sys
import time
print("Processing " + sys.stdin.readlines()[0])
time.sleep(1)
