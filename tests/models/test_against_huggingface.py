"""The same weights in Hugging Face's DecisionTransformerModel give the same actions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import DecisionTransformerConfig, DecisionTransformerModel

from reference.making import VECTOR, random_batch, small_model


def twin_of(model):
    """Their model with our weights; the position embedding that they add beside the timestep's is set to zero."""
    config = model.config
    theirs = DecisionTransformerModel(
        DecisionTransformerConfig(
            state_dim=3, act_dim=2, hidden_size=config.width, max_ep_len=model.shape.max_timesteps, action_tanh=True,
            n_layer=config.layers, n_head=config.heads, n_inner=4 * config.width, n_positions=1024,
            activation_function="relu", resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
            bos_token_id=0, eos_token_id=0,
        )
    )  # fmt: skip
    names = {
        "embed_timestep": "embed_timestep", "embed_return": "embed_return", "embed_observation": "embed_state",
        "embed_action": "embed_action", "embed_norm": "embed_ln", "action_head": "predict_action.0",
        "transformer.norm": "encoder.ln_f",
    }  # fmt: skip
    blocks = {
        "norm_attention": "ln_1", "query_key_value": "attn.c_attn", "attention_output": "attn.c_proj",
        "norm_feedforward": "ln_2", "feedforward_in": "mlp.c_fc", "feedforward_out": "mlp.c_proj",
    }  # fmt: skip
    for layer in range(config.layers):
        names |= {f"transformer.blocks.{layer}.{a}": f"encoder.h.{layer}.{b}" for a, b in blocks.items()}
    state = {"encoder.wpe.weight": torch.zeros(1024, config.width)}
    for name, value in model.state_dict().items():
        module, kind = name.rsplit(".", 1)
        theirs_name = f"{names[module]}.{kind}"
        turned = theirs_name.split(".")[-2] in ("c_attn", "c_proj", "c_fc") and kind == "weight"  # their Conv1D
        state[theirs_name] = value.T if turned else value
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    assert not unexpected
    assert {name.split(".")[0] for name in missing} <= {"predict_state", "predict_return", "encoder"}
    assert [name for name in missing if name.startswith("encoder")] in ([], ["encoder.wte.weight"])
    return theirs.eval()


@pytest.mark.parametrize(("layers", "heads"), [(1, 1), (2, 4), (3, 1), (3, 2)])
@pytest.mark.parametrize("real", [(6, 6, 6, 6), (6, 5, 2, 1)], ids=["whole", "padded"])
@torch.no_grad()
def test_outputs_are_equal(layers, heads, real):
    model = small_model("decision-transformer", VECTOR, layers=layers, heads=heads, context_length=6, spread=0.1)
    batch = random_batch(VECTOR, real=real, time=6)
    found = twin_of(model)(
        states=batch.observations, actions=batch.actions, rewards=None, returns_to_go=batch.returns_to_go,
        timesteps=batch.timesteps, attention_mask=batch.mask.long(),
    )  # fmt: skip
    ours, theirs = model(batch)[batch.mask], found.action_preds[batch.mask]
    assert float(theirs.abs().max()) > 0.05
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    torch.testing.assert_close(model(batch, last_only=True)[:, -1], found.action_preds[:, -1], atol=1e-5, rtol=0)


@torch.no_grad()
def test_their_position_embedding_is_the_one_difference():
    model = small_model("decision-transformer", VECTOR, spread=0.1)
    theirs = twin_of(model)
    theirs.encoder.wpe.weight.normal_(generator=torch.Generator().manual_seed(0))
    batch = random_batch(VECTOR)
    found = theirs(
        states=batch.observations, actions=batch.actions, rewards=None, returns_to_go=batch.returns_to_go,
        timesteps=batch.timesteps, attention_mask=batch.mask.long(),
    )  # fmt: skip
    assert np.abs((found.action_preds - model(batch)).numpy()).max() > 1e-2
