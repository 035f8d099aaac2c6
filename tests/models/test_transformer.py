import typing

import pytest
import torch
import torch.nn.functional as F
from helpers_models import (
    SOURCE_VOCAB,
    TARGET_VOCAB,
    assert_close,
    batch_of,
    layout,
    padded,
    sources,
    targets,
    tiny_transformer,
)

from minitransformer import InputError, TransformerConfig

POSITIONS = typing.get_args(typing.get_type_hints(TransformerConfig)["positions"])


def marian(*, shared):
    """A random MarianMTModel of the sizes of `tiny_transformer`, every parameter off its special value."""
    from transformers import MarianConfig, MarianMTModel  # seconds to import

    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 2, "max_position_embeddings": 16}
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24}
    paper = {"scale_embedding": True, "activation_function": "relu"}
    ids = {"pad_token_id": 0, "decoder_start_token_id": 2, "eos_token_id": 3, "forced_eos_token_id": None}
    vocabularies = {
        "vocab_size": TARGET_VOCAB if shared else SOURCE_VOCAB,
        "decoder_vocab_size": TARGET_VOCAB,
        "share_encoder_decoder_embeddings": shared,
    }
    torch.manual_seed(1)
    model = MarianMTModel(MarianConfig(**sizes, **heads, **paper, **ids, **vocabularies)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embed_positions" not in name:
                parameter += 0.3 * torch.randn_like(parameter)
        # Their table is [all sines, all cosines]; the paper has them in turns.
        for stack in (model.model.encoder, model.model.decoder):
            table = stack.embed_positions.weight
            table.copy_(table.unflatten(1, (2, -1)).transpose(1, 2).flatten(1))
            # Ours trains the embedding of id 0 where it is a real token.
            stack.embed_tokens.padding_idx = None
    return model


def counterparts(ours, theirs):
    """Pairs (ours, [theirs, ...]) of parameters: ours is theirs, or theirs one below the other."""
    pairs = [
        (ours.source_embedding.weight, [theirs.model.encoder.embed_tokens.weight]),
        (ours.target_embedding.weight, [theirs.model.decoder.embed_tokens.weight]),
    ]

    def same(our_module, *their_modules):
        for name, parameter in our_module.named_parameters():
            pairs.append((parameter, [getattr(module, name) for module in their_modules]))

    def attention(mine, other):
        same(mine.project_in, other.q_proj, other.k_proj, other.v_proj)
        same(mine.project_out, other.out_proj)

    for stack, other_stack in ((ours.encoder, theirs.model.encoder), (ours.decoder, theirs.model.decoder)):
        for mine, other in zip(stack.layers, other_stack.layers, strict=True):
            attention(mine.attention, other.self_attn)
            same(mine.attention_residual.norm, other.self_attn_layer_norm)
            same(mine.feed_forward.expand, other.fc1)
            same(mine.feed_forward.contract, other.fc2)
            same(mine.feed_forward_residual.norm, other.final_layer_norm)
            if hasattr(mine, "cross_attention"):
                attention(mine.cross_attention, other.encoder_attn)
                same(mine.cross_attention_residual.norm, other.encoder_attn_layer_norm)
    return pairs


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "separate"])
def test_logits_and_gradients_are_those_of_marian(shared):
    ours = tiny_transformer(share_embeddings=shared, source_vocab_size=TARGET_VOCAB if shared else SOURCE_VOCAB)
    theirs = marian(shared=shared)
    pairs = counterparts(ours, theirs)
    assert {id(p) for p in ours.parameters()} == {id(p) for p, _ in pairs}
    with torch.no_grad():
        for mine, others in pairs:
            mine.copy_(torch.cat(others))

    # Theirs counts positions from the first slot, so padding is at the right here.
    valid = layout([5, 2, 4], "right")
    batch = {**batch_of(ours), "source_ids": padded(ours, sources(ours, 5, 2, 4), valid), "source_valid": valid}
    inputs, labels = batch["target_ids"][:, :-1], batch["target_ids"][:, 1:]
    our_logits = ours(batch["source_ids"], inputs, valid)
    their_logits = theirs(
        input_ids=batch["source_ids"], attention_mask=valid.long(), decoder_input_ids=inputs, use_cache=False
    ).logits
    assert_close(our_logits, their_logits)

    ours.loss(batch)["lm"].total.backward()
    F.cross_entropy(their_logits.transpose(1, 2), labels, ignore_index=0, reduction="sum").backward()
    for mine, others in pairs:
        expected = torch.cat([other.grad for other in others])
        assert expected.abs().max() > 0
        assert (mine.grad - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_relative_positions_share_one_table_a_stack():
    model = tiny_transformer(positions="relative", num_encoder_layers=2)
    for stack in (model.encoder, model.decoder):
        assert len({id(layer.attention.positions.embedding.weight) for layer in stack.layers}) == 1
    encoder, decoder = model.encoder.layers[0].attention.positions, model.decoder.layers[0].attention.positions
    assert encoder.bidirectional
    assert not decoder.bidirectional
    assert encoder is not decoder


@pytest.mark.parametrize("positions", POSITIONS)
def test_only_without_positions_is_the_source_a_bag_of_words(positions):
    model = tiny_transformer(positions=positions)
    source, target = torch.tensor([[4, 5, 6, 7], [6, 4, 7, 5]]), targets(model, 1, 3).repeat(2, 1)
    logits, shuffled = model(source, target)
    same = torch.allclose(logits, shuffled, atol=1e-5)
    assert same == (positions == "none")


@pytest.mark.parametrize("positions", POSITIONS)
def test_a_model_may_be_cast_to_half_precision(positions):
    model = tiny_transformer(positions=positions)
    [row], target = sources(model, 4), targets(model, 1, 3)
    expected = model(row[None], target)
    logits = model.bfloat16()(row[None], target)
    assert logits.dtype == torch.bfloat16
    assert_close(logits.float(), expected, tolerance=0.2)


def test_only_pre_norm_stacks_end_in_a_norm():
    assert tiny_transformer().encoder.final_norm is tiny_transformer().decoder.final_norm is None
    model = tiny_transformer(pre_norm=True, norm="rmsnorm")
    assert isinstance(model.encoder.final_norm, torch.nn.RMSNorm)
    assert isinstance(model.decoder.final_norm, torch.nn.RMSNorm)


def test_embeddings_are_scaled_by_the_root_of_d_model():
    scaled, plain = tiny_transformer(positions="none"), tiny_transformer(positions="none", scale_embedding=False)
    with torch.no_grad():
        for table in (plain.source_embedding, plain.target_embedding):
            table.weight *= 4  # √16
        plain.output.weight = torch.nn.Parameter(scaled.output.weight.clone())
    [row], target = sources(scaled, 4), targets(scaled, 1, 3)
    assert_close(scaled(row[None], target), plain(row[None], target))


def test_dropout_acts_on_embeddings_with_their_positions():
    model = tiny_transformer(dropout=0.5, attention_dropout=0.0).train()
    inputs = []
    model.encoder.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    model.encode(torch.full((8, 16), 5))
    dropped = (inputs[0] == 0).float().mean()
    assert 0.4 < dropped < 0.6


def test_word_dropout_takes_whole_tokens_while_training():
    model = tiny_transformer(dropout=0.0, word_dropout=0.25, positions="none").train()
    read = []
    for stack in (model.encoder, model.decoder):
        stack.register_forward_pre_hook(lambda _, args: read.append(args[0]))
    ids = torch.full((16, 16), 5)
    model(ids, ids)
    for states, table in zip(read, (model.source_embedding, model.target_embedding), strict=True):
        whole = table.weight[5] * model.embedding_scale / 0.75
        dropped = (states == 0).all(dim=-1)
        assert 0.15 < dropped.float().mean() < 0.35
        assert_close(states, torch.where(dropped[..., None], 0.0, whole))
    read.clear()
    model.eval()(ids, ids)
    assert not any((states == 0).all(dim=-1).any() for states in read)


def test_attention_dropout_has_a_rate_of_its_own():
    model = tiny_transformer(dropout=0.25, attention_dropout=0.75)
    assert {layer.attention.dropout for layer in (*model.encoder.layers, *model.decoder.layers)} == {0.75}
    assert {layer.cross_attention.dropout for layer in model.decoder.layers} == {0.75}
    assert {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)} == {0.25}
    assert tiny_transformer(dropout=0.25).encoder.layers[0].attention.dropout == 0.25


def test_learned_positions_bound_the_target_too():
    model = tiny_transformer(positions="learned", max_length=5)
    [row] = sources(model, 5)
    _, state = model.start(row[None], max_new_tokens=5)
    for _ in range(4):
        _, state = model.step(torch.tensor([4]), state)
    with pytest.raises(InputError, match=r"max_new_tokens=6 .* max_length=5"):
        model.start(row[None], max_new_tokens=6)
    tiny_transformer(positions="rotary", max_length=5).start(row[None], max_new_tokens=6)
