"""Test files of several folders come from modules here: `from dicom_files import dicom`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
