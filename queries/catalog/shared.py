"""What columns and parameters that many views and questions have mean, said once; a header that says more comes first."""

COLUMNS = {
    "model": "VARCHAR: Name of the measured model: models.name",
    "label": "VARCHAR: Name of the head, such as L9H6",
    "depth": "DOUBLE: How deep the layer is, layer / n_layers; 0: the first layer [%]",
}
"""Type and meaning by the column's name, as headers write them."""

PARAMETERS = {
    "model": "VARCHAR = NULL: Name of a model that has one run; NULL: all runs",
    "run_id": "RUN = NULL: Number or name of a run (see the list of runs), also given as run; NULL: the model's run, or all",
    "ablation": "resample|mean|zero = resample: What the head's output is replaced by",
    "population": (
        "all|top2|top2_nobos = NULL: Rows used: all; top2, each head's top 2 % by direct effect; top2_nobos, the same "
        "without first positions; NULL: top2, or all of a run that scores answers alone"
    ),
    "layer": "INTEGER: Layer of the head, from 0",
    "head": "INTEGER: Number of the head in its layer, from 0",
    "at_most": "INTEGER = 20: Rows to show of each run, at most [rows]",
}
"""Type, default and meaning by the parameter's name, as headers write them."""

INTERVALS = {
    "_se": "Standard error of",
    "_low": "Lower end of the 95 % interval of",
    "_high": "Upper end of the 95 % interval of",
}
"""What a column that ends so says of the column it is named after; `CLUSTERED` says how it comes about."""

CLUSTERED = "clustered by document, or by prompt where no two prompts share one"
