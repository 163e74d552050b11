"""What a dry run counts: the clean forward of each prompt predicts, forwards for partners, means and top rows do not."""

import pytest

from selfrepair.ingest.engine import forward
from selfrepair.ingest.engine.memory import BatchSize
from selfrepair.ingest.request.ingest_request import IngestRequest
from selfrepair.ingest.runs import estimate
from selfrepair.ingest.runs.requested import make_plan
from support import tiny


@pytest.mark.parametrize("ablation", ["zero", "resample,mean,zero"])
def test_each_prompt_is_predicted_once_after_each_layer(tmp_path, monkeypatch, ablation):
    texts = tiny.write_texts(tmp_path / "texts.jsonl")
    model = tiny.save(tmp_path / "model")
    plan = make_plan(
        IngestRequest(model=str(model), dataset=str(texts), n_prompts=4, seq_len=8, ablation=ablation, edges=True)
    )
    predicted = []
    predict = forward.predict
    monkeypatch.setattr(forward, "predict", lambda *arguments: predicted.append(1) or predict(*arguments))

    def predictions(work, device, repeats):
        predicted.clear()
        work()
        return [float(len(predicted))] * repeats

    monkeypatch.setattr(estimate, "seconds", predictions)
    adapter = plan.model.adapter
    counted = sum(estimate._measuring(plan, plan.prompts.targets([3]), BatchSize(4, adapter.device)))
    assert counted == len(plan.prompts) * adapter.n_layers
