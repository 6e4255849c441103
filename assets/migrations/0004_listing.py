import assets.models
import django.db.models.deletion
import django.db.models.functions.comparison
import django.db.models.functions.text
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('assets', '0003_account'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='AssetAttribute',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', assets.models.BytewiseCharField(max_length=133)),
                ('text', assets.models.BytewiseCharField(max_length=255)),
                ('number', models.FloatField(null=True)),
            ],
        ),
        migrations.AddField(
            model_name='asset',
            name='folder',
            field=models.GeneratedField(db_persist=True, expression=django.db.models.functions.comparison.Coalesce('parent', assets.models.HomeFolder('owner')), output_field=models.UUIDField()),
        ),
        migrations.AddField(
            model_name='asset',
            name='name_key',
            field=models.GeneratedField(db_persist=True, expression=django.db.models.functions.text.Left('name_folded', 250), output_field=assets.models.BytewiseCharField(max_length=250)),
        ),
        migrations.AlterField(
            model_name='asset',
            name='content_type',
            field=assets.models.BytewiseCharField(max_length=255),
        ),
        migrations.AddIndex(
            model_name='asset',
            index=models.Index(condition=models.Q(('trashed_at', None)), fields=['owner', 'folder', 'id'], name='asset_folder'),
        ),
        migrations.AddIndex(
            model_name='asset',
            index=models.Index(condition=models.Q(('trashed_at', None)), fields=['owner', 'folder', 'name_key', 'id'], name='asset_folder_name'),
        ),
        migrations.AddIndex(
            model_name='asset',
            index=models.Index(condition=models.Q(('trashed_at', None)), fields=['owner', 'folder', 'size', 'id'], name='asset_folder_size'),
        ),
        migrations.AddIndex(
            model_name='asset',
            index=models.Index(condition=models.Q(('trashed_at', None)), fields=['owner', 'workflow_id', 'id'], name='asset_workflow'),
        ),
        migrations.AddIndex(
            model_name='asset',
            index=models.Index(condition=models.Q(('trashed_at', None)), fields=['owner', 'job_id', 'id'], name='asset_job'),
        ),
        migrations.AddIndex(
            model_name='asset',
            index=models.Index(condition=models.Q(('trashed_at', None)), fields=['owner', 'node_id', 'id'], name='asset_node'),
        ),
        migrations.AddIndex(
            model_name='asset',
            index=models.Index(condition=models.Q(('trashed_at', None)), fields=['owner', 'content_type', 'id'], name='asset_type'),
        ),
        migrations.AddField(
            model_name='assetattribute',
            name='asset',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='attributes', to='assets.asset'),
        ),
        migrations.AddField(
            model_name='assetattribute',
            name='owner',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddIndex(
            model_name='assetattribute',
            index=models.Index(fields=['asset', 'name'], name='attribute_asset'),
        ),
        migrations.AddIndex(
            model_name='assetattribute',
            index=models.Index(fields=['owner', 'name', 'text', 'asset'], name='attribute_text'),
        ),
        migrations.AddIndex(
            model_name='assetattribute',
            index=models.Index(condition=models.Q(('number__isnull', False)), fields=['owner', 'name', 'number', 'asset'], name='attribute_number'),
        ),
    ]
