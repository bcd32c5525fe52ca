"""Drawn DICOM files are needed by tests of several folders: `from dicom_files import dicom`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
