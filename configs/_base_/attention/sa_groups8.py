attention = dict(type='SA', groups=8)
