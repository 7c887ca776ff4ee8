"""Pretrains a network as `flaxtl pretrain` does; the form for job schedulers that start Python scripts.

python scripts/pretrain.py pictures/ --variant resnet18 --out runs/pretrain
python scripts/pretrain.py pictures/ --config configs/pretrain_characters.yaml
"""

import sys

from flaxtl.cli import main

if __name__ == "__main__":
    sys.exit(main(["pretrain", *sys.argv[1:]]))
