"""How the demo networks came to be: seeded training, gates on held-out pictures, model cards.

`python -m camkit_playground.train` retrains all three networks and checks them.
"""
