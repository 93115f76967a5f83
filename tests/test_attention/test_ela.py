import pytest
import torch

from ean_mmdet.attention import ELA


def formula_of(conv_groups, norm_groups):
    def gate(sequence, p):
        kernel = p['conv.weight']  # (C, C / conv_groups, k)
        channels, per_group, size = kernel.shape
        reach = size // 2
        padded = torch.nn.functional.pad(sequence, (reach, reach))
        length = sequence.shape[2]
        filtered = []
        for channel in range(channels):
            start = channel // (channels // conv_groups) * per_group
            filtered.append(
                sum(
                    kernel[channel, i, tap] * padded[:, start + i, tap : tap + length]
                    for i in range(per_group)
                    for tap in range(size)
                )
            )
        filtered = torch.stack(filtered, dim=1)
        grouped = filtered.reshape(len(sequence), norm_groups, -1)
        mean = grouped.mean(2, keepdim=True)
        var = ((grouped - mean) ** 2).mean(2, keepdim=True)
        normalized = ((grouped - mean) / (var + 1e-5).sqrt()).view_as(filtered)
        return torch.sigmoid(normalized * p['norm.weight'][:, None] + p['norm.bias'][:, None])

    def formula(x, p):
        return x * gate(x.mean(3), p)[:, :, :, None] * gate(x.mean(2), p)[:, :, None, :]

    return formula


@pytest.mark.parametrize(
    ('variant', 'kernel_size', 'conv_groups', 'norm_groups'),
    [('T', 5, 32, 32), ('B', 7, 32, 16), ('S', 5, 4, 16), ('L', 7, 4, 16), ((3, 16, 8), 3, 16, 8)],
)
def test_formula(assert_agrees, variant, kernel_size, conv_groups, norm_groups):
    module = ELA(32, variant=variant)
    assert module.conv.kernel_size == (kernel_size,)
    assert sum(p.numel() for p in module.parameters()) == 32 * 32 // conv_groups * kernel_size + 2 * 32
    assert_agrees(module, formula_of(conv_groups, norm_groups), shape=(2, 32, 5, 4))


@pytest.mark.parametrize(
    ('channels', 'variant', 'message'),
    [
        (32, 'X', 'variant must be one of T, B, S, L'),
        (32, (7, 32), 'or three numbers'),
        (24, 'B', r'groups of the norm=16; groups of the norm can be one of \[1, 2, 3, 4, 6, 8, 12, 24\]'),
        (20, 'S', 'in_channels must be divisible by 8, got 20'),
        (32, (4, 32, 16), 'kernel must be an odd number, got 4'),
    ],
)
def test_bad_variants(channels, variant, message):
    with pytest.raises(ValueError, match=message):
        ELA(channels, variant=variant)
