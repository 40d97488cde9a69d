"""`av_digits`: a digit that is seen, heard and felt."""

from mmkit.datasets.av_digits.builder import AvDigits
from mmkit.datasets.av_digits.features import MEL_BINS, DigitSenses, mel_spectrogram

__all__ = ["MEL_BINS", "AvDigits", "DigitSenses", "mel_spectrogram"]
