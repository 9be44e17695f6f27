"""What ``train.py`` carries out: the stages of each kind of recipe, and what they share."""
