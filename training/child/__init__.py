"""What computes for long, each in a process of its own that knows no table and no setting of the site.

__main__.py      how a child begins and ends
job.py           what it is given, and how it says something
confinement.py   what it gives up before it begins
base.py rows.py  the model it starts from, and rows as tokens: the same for training and evaluation
train.py         LoRA fine-tuning
checkpoints.py   what it goes on from after a fall
"""
