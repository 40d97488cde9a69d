"""Speaks words with the eSpeak NG synthesiser, in a process of its own.

Run by path (`python espeak.py ENGINE`), never imported by the kit: the engine is GPL-3, so it stays at arm's length
from the rest. It reads one JSON object a line from standard input, `{"word", "voice", "rate", "pitch"}`, and answers
each with the number of samples (four bytes, little-endian) and the samples (int16, little-endian, 22,050 Hz).
"""

import ctypes
import json
import struct
import sys
from pathlib import Path

SAMPLE_RATE = 22_050
_SYNCHRONOUS, _UTF8, _RATE, _PITCH = 2, 1, 1, 3  # constants of eSpeak's speak_lib.h
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def main(engine: Path) -> None:
    """Answers requests until standard input ends.

    Args:
        engine: folder with the shared library and `espeak-ng-data`.
    """
    names = ("libespeak-ng.so", "libespeak-ng.dylib", "espeak-ng.dll")
    library = ctypes.CDLL(str(next(engine / name for name in names if (engine / name).exists())))
    if library.espeak_Initialize(_SYNCHRONOUS, 0, str(engine).encode(), 0) != SAMPLE_RATE:
        raise SystemExit("eSpeak NG did not start")
    heard: list[bytes] = []

    @_CALLBACK
    def collect(samples, count, events):
        if samples and count > 0:
            heard.append(ctypes.string_at(samples, count * 2))
        return 0

    library.espeak_SetSynthCallback(collect)
    voice = None
    for line in sys.stdin:
        request = json.loads(line)
        if request["voice"] != voice:  # a change of voice takes longer than a word
            voice = request["voice"]
            if library.espeak_SetVoiceByName(voice.encode()) != 0:
                raise SystemExit(f"eSpeak NG has no voice {voice}")
        library.espeak_SetParameter(_RATE, request["rate"], 0)
        library.espeak_SetParameter(_PITCH, request["pitch"], 0)
        heard.clear()
        library.espeak_ng_SetRandSeed(1)  # its breath and flutter are random; without this, by the clock
        text = request["word"].encode() + b"\0"
        if library.espeak_Synth(text, len(text), 0, 1, 0, _UTF8, None, None) != 0:
            raise SystemExit(f"eSpeak NG cannot speak {request['word']}")
        sound = b"".join(heard)
        sys.stdout.buffer.write(struct.pack("<I", len(sound) // 2) + sound)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
