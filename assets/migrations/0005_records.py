from django.db import migrations, models


class NameStart(models.Func):
    """The beginning of a name; 0015 replaces its index."""

    template = "substr(%(expressions)s, 1, 200)"
    arity = 1
    output_field = models.CharField()


class Migration(migrations.Migration):

    dependencies = [
        ('assets', '0004_listing'),
    ]

    operations = [
        migrations.AddIndex(
            model_name='asset',
            index=models.Index(condition=models.Q(('trashed_root__isnull', False)), fields=['trashed_root', 'id'], name='asset_trashed_root'),
        ),
        migrations.AddIndex(
            model_name='asset',
            index=models.Index(condition=models.Q(('trashed_at', None), ('trashed_root__isnull', False)), fields=['id'], name='asset_deletion'),
        ),
        migrations.AddIndex(
            model_name='asset',
            index=models.Index(models.F('owner'), NameStart('name'), models.F('id'), condition=models.Q(('trashed_at', None)), name='asset_name'),
        ),
    ]
