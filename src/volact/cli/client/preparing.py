# SPDX-License-Identifier: Apache-2.0
"""``prepare``: lays products, keys and settings of an answer file into this machine, or into an image."""

import argparse
from pathlib import Path

from volact.cli.client.shared import open_store, say_notes
from volact.cli.environment import Environment, counted
from volact.client.deployment import image
from volact.client.folder.store import ClientStore
from volact.core.errors import ConfigError


class ImageMissingError(ConfigError):
    code = "image-missing"
    fmt = "{path} is not the file tree of a system: {why}"
    remedy = "mount the image, and give the folder in which its /var is"


def prepare(args: argparse.Namespace, env: Environment) -> int:
    answer = image.read_answer_file(Path(args.file))
    store = open_store(args, env) if args.image is None else ClientStore(image.folder_in(_tree(Path(args.image))))
    put = image.apply if args.image is None else image.lay_into_image
    products = put(store, answer, env.clock())
    if env.json:
        env.write_json({"folder": str(store.folder), "products": products})
        return 0
    env.say(f"laid {counted(len(products), 'product')} into {store.folder}: {', '.join(products)}".removesuffix(": "))
    if args.image is not None:
        env.hint("the licensing service activates at the first start: enable volact-client.service in the image")
    say_notes(store, env)
    return 0


def _tree(path: Path) -> Path:
    if not (path / "var").is_dir():
        raise ImageMissingError(path=str(path), why="it has no /var")
    return path
