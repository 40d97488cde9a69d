"""The command line: `python -m mmkit fetch`, `prepare` and `doctor`."""

import argparse
import sys


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns its exit status."""
    if (sys.argv[1:] if arguments is None else arguments) == ["doctor"]:  # first, for it works where sources does not
        from mmkit.commands import doctor

        return doctor.main()
    from mmkit.ground import settings, sources

    description = "Fetch data, prepare data sets, look for faults."
    parser = argparse.ArgumentParser(prog="python -m mmkit", description=description)
    commands = parser.add_subparsers(dest="command", required=True)
    fetch = commands.add_parser("fetch", help="bring pinned sources into the cache")
    fetch.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(sources.names())}")
    fetch.add_argument("--all", action="store_true", help="every source")
    prepare = commands.add_parser("prepare", help="make data sets and pretrained weights ready for use offline")
    prepare.add_argument("names", nargs="*", metavar="DATASET", help="a data set, such as av_digits; none: everything")
    commands.add_parser("doctor", help="say what is right and wrong on this machine")
    options = parser.parse_args(arguments)
    if options.command == "fetch" and bool(options.names) == options.all:
        parser.error("fetch wants either names or --all")
    try:
        if options.command == "fetch":
            for name in sources.names() if options.all else options.names:
                print(f"{name}: {sources.fetch(name, progress=sys.stderr.isatty())}", flush=True)
        else:
            from mmkit.commands.prepare import prepare

            prepare(options.names)
    except (sources.SourceError, settings.SettingError) as error:
        print(f"mmkit: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("mmkit: stopped; what was finished is kept, run the same command to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
