"""The data of a run and of its evaluations: drawn, indexed, found, compared."""

import hashlib
from pathlib import Path

from ml_collections import ConfigDict

from cloob_jax import evaluators, writers
from cloob_jax.data import shapes, sources
from cloob_jax.data.protocol import Source
from cloob_jax.process_group import ProcessGroup


def find(
    config: ConfigDict, group: ProcessGroup, log: writers.Log
) -> tuple[Source, dict[str, evaluators.Evaluator]]:
    """Draws and indexes what has to be; collective, and all see the same data.

    Returns:
      The pairs to train on, and the tests by their names.

    Raises:
      UserError: something is not there, or not the same for all processes.
    """
    # Where disks are shared, the others find what process 0 has made.
    with group.leader_first():
        _generate(config, log)
        data = config.data

        def report(done: int, total: int) -> None:
            log.progress(f"indexing {data.train}: {done}/{total}", done % 100 == 0)

        source = sources.build(data.train or "", data.columns, data.weights, report)
        beta = config.objective.beta or evaluators.PUBLISHED_BETA
        tests = evaluators.build(dict(config.evals.items()), beta=beta)
    found = {"config.data.train": source}
    found |= {f"config.evals.{n}": test.dataset.records for n, test in tests.items()}
    facts = {
        f"what is in {name}": f"{len(records)} records, fingerprint "
        f"{records.fingerprint}"
        for name, records in found.items()
    }
    if config.data.tokenizer is not None:
        content = Path(config.data.tokenizer).read_bytes()
        digest = hashlib.sha256(content).hexdigest()[:16]
        facts["what is in config.data.tokenizer"] = f"fingerprint {digest}"
    group.agree(facts)
    return source, tests


def _generate(config: ConfigDict, log: writers.Log) -> None:
    """Draws the embedded data set, once, where the config asks for it."""
    wanted = config.data.shapes
    if wanted is None:
        return

    def report(done: int, total: int) -> None:
        # Where there is no terminal, every tenth line says enough.
        keep = done % 10_000 == 0 or done == total
        log.progress(f"drawing {wanted.directory}: {done}/{total} scenes", keep)

    settings = wanted.to_dict()
    shapes.generate(Path(settings.pop("directory")), **settings, report=report)
