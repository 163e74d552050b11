"""The bundled model, for trying `measure` without a download."""

from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from selfrepair.ingest.models.demo import DEMO_FOLDER


def demo_model() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model that `selfrepair demo` measures and its tokenizer, both of transformers: 6 layers of 8 heads, in float32.

    Each call loads another copy, to be changed at will.

    >>> from selfrepair import demo_model
    >>> model, tokenizer = demo_model()
    >>> model.config.n_layer, model.config.n_head
    (6, 8)
    """
    return AutoModelForCausalLM.from_pretrained(DEMO_FOLDER, dtype="float32"), AutoTokenizer.from_pretrained(
        DEMO_FOLDER
    )
