"""Where examples come from, how they are split, what the card's modality does to them, and how they are loaded."""

from flaxtl.data.arrays import from_arrays
from flaxtl.data.asked import as_source
from flaxtl.data.audio import Clip
from flaxtl.data.augment import Augment, Changes
from flaxtl.data.augment_sound import SoundAugment
from flaxtl.data.entry import Entry
from flaxtl.data.folder import from_files, from_folder
from flaxtl.data.hub_sets import from_hf
from flaxtl.data.loader import Loader
from flaxtl.data.opening import digits, open_source, with_split
from flaxtl.data.parquet import from_parquet
from flaxtl.data.records import Record
from flaxtl.data.selecting import limited, renamed, select
from flaxtl.data.source import Example, Source, Splits
from flaxtl.data.splits import few_shot, folds, stratified_split
from flaxtl.data.tables import from_csv, from_jsonl
from flaxtl.data.tensorflow_sets import from_tfds
from flaxtl.data.turned import with_turned_classes
from flaxtl.data.unlabelled import to_predict

__all__ = [
    "Augment",
    "Changes",
    "Clip",
    "Entry",
    "Example",
    "Loader",
    "Record",
    "SoundAugment",
    "Source",
    "Splits",
    "as_source",
    "digits",
    "few_shot",
    "folds",
    "from_arrays",
    "from_csv",
    "from_files",
    "from_folder",
    "from_hf",
    "from_jsonl",
    "from_parquet",
    "from_tfds",
    "limited",
    "open_source",
    "renamed",
    "select",
    "stratified_split",
    "to_predict",
    "with_split",
    "with_turned_classes",
]
