"""What the chain of events says, as numbers: pure functions of bytes, numbers and a moment.

The service calls them on every request and training calls the same ones when it replays the log,
so the two cannot drift. No I/O, no clock, no protobuf.
"""

from features.compiled import keep_apart

keep_apart()  # before any kernel is made
