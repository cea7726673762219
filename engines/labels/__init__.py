"""What the classes are called: from the many files in which people write it down."""

from engines.labels.find import LABEL_FILES, Labels, find_labels
from engines.labels.names import LabelType, is_placeholder

__all__ = ["LABEL_FILES", "LabelType", "Labels", "find_labels", "is_placeholder"]
