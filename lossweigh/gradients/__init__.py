"""Where a model is cut, and how its branches' gradients meet there.

`graph` and `boundary` find the places, `balanced` stands in a training model where the
prediction model would, and `passes` combines what comes back, as a balancer says.
"""
