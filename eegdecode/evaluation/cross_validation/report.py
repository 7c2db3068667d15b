"""The page of a cross-validation: report.html of an evaluation with several folds or seeds."""

from collections.abc import Sequence

from eegdecode.evaluation.config import Evaluate
from eegdecode.evaluation.cross_validation.choice import Chosen
from eegdecode.evaluation.cross_validation.folds import CrossValidation, Fold, pool
from eegdecode.evaluation.report import report, sections
from eegdecode.page import page, say
from hpc.runs.rundir import RunDir


def render(
    run: RunDir,
    cfg: Evaluate,
    several: Sequence[Chosen],
    decoded: Sequence[Fold],
    result: CrossValidation,
    untested: str,
) -> str:
    models = [model for each in several for model in each.models]
    runs = [*sections.lineages([model.run for model in models]), run]
    is_choice = any(each.n_settings > 1 for each in several)
    return page(
        "evaluation/cross_validation/cross_validation",
        **report.of_result(result.result),
        run=run.name,
        target=models[0].target,
        whole=result,
        made_up=sections.made_up(runs),
        n_settings=max(each.n_settings for each in several) if is_choice else 1,
        chosen_by=several[0].by.replace("_", " "),
        is_fixed=cfg.choice == "fixed",
        is_ensemble=any(len(each.models) > 1 for each in several),
        folds=_folds(several, result, is_choice),
        repetitions=[(name, say(value)) for name, value in result.repetitions.items()],
        data=[*pool(decoded).audit, *([untested] if untested else [])],
        audited=sections.audited(models[0]),
        capsule=sections.capsule(runs, models[:1]),
    )


def _folds(several: Sequence[Chosen], result: CrossValidation, is_choice: bool) -> tuple[list[str], list[list[str]]]:
    head = ["Fold", "repetition", "trained by", "subjects", "windows", result.result.headline]
    rows = [
        [
            own.name,
            own.repetition or "–",
            ", ".join(model.run.name for model in each.models),
            str(own.n_subjects),
            str(own.n_windows),
            "–" if own.value is None else say(own.value),
            *([each.settings] if is_choice else []),
        ]
        for each, own in zip(several, result.folds, strict=True)
    ]
    return [*head, *(["settings that it chose"] if is_choice else [])], rows
