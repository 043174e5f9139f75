"""Where examples come from (sources), and what happens to them (pipeline)."""

from reszoo.data.augmentation import Augmentation as Augmentation
from reszoo.data.crop import Crop as Crop
from reszoo.data.pipeline import Pipeline as Pipeline
from reszoo.data.source import Source as Source
from reszoo.data.sources import load_source as load_source
