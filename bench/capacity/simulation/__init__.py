"""A cluster in simulated time: the real broker of the hub and the real map, with made-up nodes.

Real are `Broker` (dispatch, aggregator, admission, retries), the `Batcher` of a node and `CellMap`.
Made up are the speech, drawn from the figures; nodes, which only take the time of the figures; the
time of the hub for each message; and a network on which each message takes HOP_S.
"""
