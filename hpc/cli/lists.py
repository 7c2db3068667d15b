"""The verbs that list recipes and sites, and those that write the profile of a site: `site refresh` and `doctor`."""

import json
from collections.abc import Mapping
from pathlib import Path
from shutil import get_terminal_size
from textwrap import shorten

from hpc import media
from hpc.cli.options import Arguments
from hpc.codes import DONE
from hpc.config import recipes
from hpc.errors import ConfigError
from hpc.site import allocation, profile, refresh


def list_recipes(args: Arguments, environ: Mapping[str, str]) -> int:
    _no_words(args)
    titles = {name: (str(path), recipes.title(path)) for name, path in recipes.every().items()}
    if args.json:
        print(json.dumps([{"name": name, "file": path, "title": title} for name, (path, title) in titles.items()]))
        return DONE
    if not titles:
        print("there is no recipe: no installed package has one, and there is no configs/ here")
        return DONE

    width = max(map(len, titles))
    room = max(40, get_terminal_size((120, 24)).columns - width - 2)
    for name, (_, title) in titles.items():
        print(media.one_line(f"{name:<{width}}  {shorten(title, room, placeholder=' …')}"))
    print("\n  run one   python -m hpc.launch pipeline NAME   (many have --preset size=tiny; the file says more)")
    return DONE


def list_sites(args: Arguments, environ: Mapping[str, str]) -> int:
    _no_words(args)
    here = profile.detect(environ)
    rows: list[tuple[str, str, str, str]] = []
    for name in profile.names():
        try:
            site = profile.load(name)
            rows.append((name, site.kind, site.status, site.description))
        except ConfigError as error:  # a file that is being written
            rows.append((name, "", "broken", str(error)))
    if args.json:
        fields = ("name", "kind", "status", "description")
        every = [dict(zip(fields, row)) | {"file": str(profile.find(row[0])), "here": row[0] == here} for row in rows]
        print(json.dumps(every))
        return DONE
    width = max(len(row[0]) for row in rows)
    for name, kind, status, description in rows:
        mark = "*" if name == here else " "
        print(media.one_line(f"{mark} {name:<{width}}  {kind:<7}{status:<15}{description}"))
    print(f"\n  * is this machine   another   --on NAME   a profile of your own   {profile.folders()[0]}/NAME.yaml")
    return DONE


def _no_words(args: Arguments) -> None:
    if args.words:
        raise ConfigError(f"{args.verb} lists all and takes no word, but got {' '.join(args.words)!r}")


def write_site(args: Arguments, environ: Mapping[str, str]) -> int:
    if len(args.words) != 2 or args.words[0] != "refresh":
        raise ConfigError("say `site refresh NAME`: it writes a profile of that name from what Slurm here says")
    print(refresh.write(args.words[1], Path.home() / ".config/hpc/site", replace=args.replace))
    return DONE


def run_doctor(args: Arguments, environ: Mapping[str, str]) -> int:
    from hpc.doctor import doctor  # not above: the lists do without what looks at nodes

    if args.on and "," in args.on:
        raise ConfigError(f"--on {args.on}: doctor looks at one site at a time: say one")
    site = profile.load(args.on) if args.on else profile.Site(profile.ANY, "slurm")
    account = allocation.find_account(site, args.account, environ, Path.home())
    named = ("qos", "reservation", "constraint", "nodelist", "exclude")
    given = {"account": account, **{name: getattr(args, name) for name in named}}
    asked = doctor.Asked(
        site=args.on,
        partition=args.partition,
        options={name: value for name, value in given.items() if value},
        runs=Path(args.runs),
        output=args.output or "",
        wait=args.wait,
        again=args.again,
        replace=args.replace,
        probes=args.words,
    )
    return doctor.examine(asked, environ)
