"""Residual networks assembled from `reszoo.layers`."""

from reszoo.models.catalog import create_model as create_model
from reszoo.models.catalog import list_models as list_models
from reszoo.models.resnet import ResNet18 as ResNet18
from reszoo.models.resnet import ResNet50 as ResNet50
