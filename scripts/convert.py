"""Converts published weights as `flaxtl convert` does; the form for job schedulers that start Python scripts.

python scripts/convert.py hf:timm/resnet18.a1_in1k models/resnet18
python scripts/convert.py weights/mobilenet_v2.pth models/mobilenet_v2 --explain
python scripts/convert.py models/mobilenet_v2 back.safetensors
"""

import sys

from flaxtl.cli import main

if __name__ == "__main__":
    sys.exit(main(["convert", *sys.argv[1:]]))
