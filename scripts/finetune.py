"""Fine-tunes a pretrained network as `flaxtl finetune` does; the form for job schedulers that start Python scripts.

python scripts/finetune.py photos/ --from runs/pretrain --strategy lpft --out runs/photos
python scripts/finetune.py photos/ --from flaxtl:characters --strategy head --json
"""

import sys

from flaxtl.cli import main

if __name__ == "__main__":
    sys.exit(main(["finetune", *sys.argv[1:]]))
