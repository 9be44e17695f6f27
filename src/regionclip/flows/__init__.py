"""What ``train.py`` carries out: the stages of each kind of recipe, and what they share.

Those of transfer learning and of proposal networks are in ``train.py`` itself.
"""
