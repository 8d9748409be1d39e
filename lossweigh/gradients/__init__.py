"""Where a model is cut, and how its branches' gradients meet there.

`boundary` cuts a model where its branches leave the shared layers. `balanced` stands in
a training model where the prediction model would. `step` combines the branches'
gradients, with the weights that a balancer gives.
"""
